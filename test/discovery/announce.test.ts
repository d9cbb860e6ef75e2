// What does a process say in etcd, and what do others make of it?

import test from 'ava';
import { Announcer } from '../../src/discovery/etcd-announce.js';
import { announcedSource } from '../../src/discovery/etcd.js';
import { until } from '../support/wait.js';
import { Etcd, Followed } from './support.js';

const PREFIX = '/mesh/sidecars/';

test('what is no more when etcd comes back goes at once', async (t) => {
  const etcd = await Etcd.start(t);
  const failures: unknown[] = [];
  const announcer = new Announcer({ endpoints: [etcd.url], prefix: PREFIX }, (error) => failures.push(error));
  t.teardown(() => announcer.close());
  announcer.set(
    new Map([
      ['a', 'one'],
      ['b', 'two'],
    ]),
  );
  await until('both', async () => (await etcd.texts(PREFIX)).join(' ') === 'one two');
  await etcd.kill();
  announcer.set(new Map([['a', 'one']]));
  await until('that etcd is away', () => failures.length > 0);
  await etcd.begin(t);
  await until('the one', async () => (await etcd.texts(PREFIX)).join(' ') === 'one');
  t.pass();
});

test('who comes again to an address is there, whoever says that it left, in whatever order', async (t) => {
  const etcd = await Etcd.start(t);
  const [left, came] = ['10.0.0.1:1', '10.0.0.1:2'];
  await etcd.put(`${PREFIX}1`, { address: left, draining: true });
  await etcd.put(`${PREFIX}2`, { address: left });
  await etcd.put(`${PREFIX}3`, { address: came });
  await etcd.put(`${PREFIX}4`, { address: came, draining: true });
  const followed = new Followed(t, [announcedSource({ endpoints: [etcd.url], prefix: PREFIX }, () => false)]);
  await followed.has(left, came);
  t.deepEqual(followed.directory.endpoints('basket'), [{ address: left }, { address: came }]);
  await etcd.remove(`${PREFIX}3`);
  await until('it drains', () => followed.directory.endpoints('basket')[1]?.draining);
});
