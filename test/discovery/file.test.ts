// Is a file of endpoints followed, and does a bad one change nothing?

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { ConfigError } from '../../src/errors.js';
import { fileSource, parseEndpoints } from '../../src/discovery/file.js';
import { pipe, temporaryFolder } from '../support/files.js';
import { Followed } from './support.js';

test('it is followed; a bad one is told with its line and field, and changes nothing', async (t) => {
  const file = join(temporaryFolder(t), 'endpoints.yaml');
  const followed = new Followed(t, [fileSource(file)]);
  await followed.happened('sourceProblem', /there is no such file/);
  writeFileSync(file, '- 10.0.0.1:1\n- { address: 10.0.0.2:1, weight: 2, ports: [80] }\n');
  await followed.has('10.0.0.1:1', '10.0.0.2:1');
  t.deepEqual(followed.directory.endpoints('basket')[1], { address: '10.0.0.2:1', weight: 2, ports: [80] });
  writeFileSync(file, '- 10.0.0.1:1\n- { address: 10.0.0.3:1, wieght: 2 }\n');
  await followed.happened('sourceProblem', /endpoints\.yaml:2:26.*\[1\]\.wieght.*did you mean weight\?/s);
  t.deepEqual(followed.addresses(), ['10.0.0.1:1', '10.0.0.2:1']);
  t.is(followed.directory.status()[0]?.state, 'failing');
  writeFileSync(`${file}.new`, '["10.0.0.3:1"]');
  renameSync(`${file}.new`, file);
  await followed.has('10.0.0.3:1');
  t.is(followed.directory.status()[0]?.state, 'live');
  writeFileSync(file, '');
  await followed.happened('sourceProblem', /the file is empty: expected a list of endpoints, \[\] for none/);
  t.deepEqual(followed.addresses(), ['10.0.0.3:1']);
  writeFileSync(file, '[]');
  await followed.has();
});

test('a pipe is refused, and waited for by nobody', async (t) => {
  const file = pipe(t);
  const followed = new Followed(t, [fileSource(file)]);
  await followed.happened('sourceProblem', /expected a file, found a pipe/);
  writeFileSync(`${file}.new`, '- 10.0.0.1:1\n');
  renameSync(`${file}.new`, file);
  await followed.has('10.0.0.1:1');
});

test('every mistake is told', (t) => {
  const error = t.throws(() => parseEndpoints('- basket:80\n- { weight: 0 }\n- 7\n', { file: 'e.yaml' }), {
    instanceOf: ConfigError,
  });
  t.deepEqual(
    error?.issues.map(({ line, field }) => [line, field]),
    [
      [1, '[0]'],
      [2, '[1].address'],
      [2, '[1].weight'],
      [3, '[2]'],
    ],
  );
});
