/** Run before each test file: what a terminal, Jest or CI says of colours is not for the programs that tests start. */
delete process.env.FORCE_COLOR;
delete process.env.NO_COLOR;
