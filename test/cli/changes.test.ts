// Is every difference between two configurations named, and nothing else?

import test from 'ava';
import { changesBetween, renderChanges } from '../../src/cli/changes.js';
import { type Config, checkConfig } from '../../src/index.js';

const resources = (config: Config) => checkConfig(config).compiled.resources;
const BASE: Config = {
  listeners: [{ name: 'web', address: ':1', routes: [{ to: 'api' }] }],
  clusters: { api: { endpoints: ['127.0.0.1:1'] }, site: { dns: 'site.test:80' } },
};

const CASES: [what: string, config: Config, changes: string][] = [
  ['nothing', { ...BASE, admin: 'off' }, 'nothing that matters'],
  [
    'another order',
    { ...BASE, clusters: { site: { dns: 'site.test:80' }, api: { endpoints: ['127.0.0.1:1'] } } },
    'nothing that matters',
  ],
  [
    'a route',
    { ...BASE, listeners: [{ name: 'web', address: ':1', routes: [{ to: 'site' }] }] },
    'changed route table web',
  ],
  [
    'an address',
    { ...BASE, listeners: [{ name: 'web', address: ':2', routes: [{ to: 'api' }] }] },
    'changed listener web',
  ],
  [
    'an endpoint',
    { ...BASE, clusters: { ...BASE.clusters, api: { endpoints: ['127.0.0.1:2'] } } },
    'changed cluster api',
  ],
  [
    'a new cluster and one less',
    { ...BASE, clusters: { api: { endpoints: ['127.0.0.1:1'] }, more: {} } },
    'added cluster more, removed cluster site',
  ],
];

for (const [what, config, expected] of CASES) {
  test(what, (t) => {
    t.is(renderChanges(changesBetween(resources(BASE), resources(config))), expected);
  });
}

test('of many changes ten are told', (t) => {
  const clusters = Object.fromEntries(Array.from({ length: 15 }, (_, index) => [`c${index}`, {}]));
  const text = renderChanges(changesBetween(resources({}), resources({ clusters })));
  t.true(text.endsWith('added cluster c9, and 5 more'));
});
