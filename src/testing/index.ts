/** `rollout-cloud/testing`: what the authors of adapters and applications test with. No test runner is assumed. */
export * from './conformance.js';
