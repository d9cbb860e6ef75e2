// How `ava` finds and runs the tests. They run as child processes: a crash of the native core in one file
// is reported for that file and the others go on. Tests are compiled by `tsc` before ava starts.
import {
  envoyPath,
  goControlPlanePath,
  grpcGoPath,
  h2specPath,
  imagePath,
  nodePath,
  nodeVersions,
  packagesPath,
  sidecarPath,
} from './scripts/lib/toolchain.mjs';

export default {
  files: ['test/**/*.test.ts'],
  typescript: { rewritePaths: { 'test/': '.build/test/' }, compile: false },
  nodeArguments: ['--enable-source-maps'],
  // The names carry no MESH_ prefix: that one belongs to the settings of the proxies under test.
  environmentVariables: {
    BUILD_PROFILE: 'ci',
    TEST_SIDECAR: sidecarPath('ci'),
    TEST_H2SPEC: h2specPath,
    TEST_GRPC_GO: grpcGoPath,
    TEST_GO_CONTROL_PLANE: goControlPlanePath,
    TEST_ENVOY: envoyPath,
    TEST_NODES: nodeVersions.map(nodePath).join(':'),
    TEST_IMAGE: imagePath('ci'),
    TEST_PACKAGES: packagesPath('ci'),
  },
  workerThreads: false,
  concurrency: 2,
  timeout: '60s',
};
