/** What the tests of isolated plugins share. */
import { FatalError } from '../../src/contracts/errors.js';

/** What ends a connection in a test. */
export const DISCONNECTED = new FatalError('Internal', 'the connection ended', { code: 'CLOSED' });
