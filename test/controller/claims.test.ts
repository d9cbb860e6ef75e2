// Where is a sidecar of which several control planes say something?

import test from 'ava';
import { Claims } from '../../src/controller/claims.js';

const ID = 'spiffe://mesh.local/ns/default/sa/basket';

test('what one that it has left says of it is outdated, until it is there again', (t) => {
  const claims = new Claims();
  const said = (turn: number, instance = '1') => ({
    identity: ID,
    address: '10.0.0.1:1',
    sidecar: { name: 'a', instance, pid: 1, turn },
  });
  const outdated = (...keys: readonly (readonly [string, unknown])[]) => [...claims.outdated(new Map(keys))];
  t.deepEqual(outdated(['one/a', said(5)], ['one/b', '10.0.0.2:1']), []);
  t.deepEqual(outdated(['one/a', said(5)], ['two/a', said(7)]), ['one/a']);
  t.deepEqual(outdated(['one/a', said(5)]), ['one/a'], 'it has left the other');
  t.deepEqual(outdated(['one/a', said(9)]), []);
  claims.own([{ identity: ID, name: 'a', instance: '1', pid: 1, turn: 11 }]);
  t.deepEqual(outdated(['one/a', said(9)]), ['one/a'], 'it is here');
  // Another process of its name is somebody else, who may lose it.
  t.deepEqual(outdated(['one/a', said(10, '2')]), []);
});
