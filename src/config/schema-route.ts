/**
 * What may people write about routes?
 *
 * The part of the schema that tells requests apart, changes them and says where they go. See `schema.ts`.
 */

import { z } from 'zod';
import * as formats from './formats.js';
import {
  exactlyOne,
  documented,
  duration,
  flag,
  headerTexts,
  hosts,
  list,
  listOf,
  map,
  may,
  must,
  oneOf,
  part,
  text,
  whole,
} from './schema-kit.js';

// Where requests go -----------------------------------------------------------------------------------------------

const weightedTarget = part('WeightedTarget', 'A cluster or address and its share of the requests.', {
  cluster: must(
    text(formats.target),
    'The cluster, by name, or an address that stands for a cluster by itself.',
  ),
  weight: may(whole(0, 1_000_000), 'Share relative to the others.', { default: 1 }),
});

export const targets = documented(
  z.union([text(formats.target), weightedTarget, z.array(z.union([text(formats.target), weightedTarget]))], {
    error: `expected ${formats.target.expected}`,
  }),
  {
    id: 'Targets',
    description:
      'Where to: the name of a cluster, an address (`127.0.0.1:3000`, `site.internal:80`, `unix:/run/app.sock`) ' +
      'that stands for a cluster by itself, or a list of these from which one is drawn by weight.',
    examples: [
      'api',
      '127.0.0.1:3000',
      [
        { cluster: 'site', weight: 95 },
        { cluster: 'site-next', weight: 5 },
      ],
    ],
  },
);

// Which requests --------------------------------------------------------------------------------------------------

const pathKinds = ['exact', 'prefix', 'template', 'regex'];
const pathObject = part(
  'PathCondition',
  'A path condition with its kind spelled out, for paths that hold `*`, `{` or `~` themselves.',
  {
    exact: may(text(formats.name), 'This very path.'),
    prefix: may(text(formats.name), 'This path and everything below it, on segment borders.'),
    template: may(text(formats.name), '`{name}` takes one segment, `{name*}` at the end takes the rest.'),
    regex: may(text(formats.name), 'A regular expression over the whole path, matched in linear time.'),
  },
  exactlyOne(...pathKinds),
);

const path = documented(
  z.union([text(formats.pathPattern), pathObject], { error: `expected ${formats.pathPattern.expected}` }),
  {
    id: 'Path',
    description:
      '`/this` exactly, `/this/*` for it and everything below, `/users/{id}` (`{id}` takes one segment, `{rest*}` ' +
      'at the end takes all), `~regex` over the whole path.',
    examples: formats.pathPattern.examples ?? [],
  },
);

const valueObject = part(
  'ValueCondition',
  'What a value must be.',
  {
    exact: may(text(formats.text), 'This very text.'),
    prefix: may(text(formats.text), 'It starts with this.'),
    suffix: may(text(formats.text), 'It ends with this.'),
    regex: may(text(formats.text), 'The whole value matches this regular expression.'),
    present: may(z.literal(true, { error: 'expected true' }), 'It is there, whatever it is.'),
    not: may(flag(), 'Turns the condition round.', { default: false }),
  },
  exactlyOne('exact', 'prefix', 'suffix', 'regex', 'present'),
);

const valueExpected = 'text, true (present), false (absent), or a condition such as { prefix: v1 }';
const valueCondition = z.union([text(formats.text), flag(), valueObject, z.array(valueObject)], {
  error: `expected ${valueExpected}`,
});
const values = (what: string) => map(valueCondition, `${what} names with conditions`);

export const headerConditions = values('header');

const match = part('Match', 'Which requests a route takes: all conditions must hold.', {
  host: may(
    hosts(),
    'The host, without case and port: `shop.test`, `*.shop.test` (one label or more in front), `*`; or a list.',
    { default: '*' },
  ),
  path: may(
    path,
    '`/exact`, `/prefix/*`, `/users/{id}` or `~regex`; without query, in normal form. Not together with `grpc`.',
  ),
  method: may(
    listOf(text(formats.method), 'a method such as GET, or a list of methods'),
    'The method, or a list of methods.',
    { examples: ['GET', ['PUT', 'POST']] },
  ),
  headers: may(
    values('header'),
    'Header conditions: a text, `true` (present), `false` (absent), `{ prefix: v1 }`, or a list of conditions. Of a header that comes several times every value must match.',
    { examples: [{ 'x-beta': true }] },
  ),
  query: may(
    values('parameter'),
    'Query parameter conditions, on the decoded value, written like `headers`. Of one that comes several times every value must match.',
    { examples: [{ page: { regex: '[0-9]+' } }] },
  ),
  grpc: may(
    text(formats.grpcMethod),
    'gRPC calls only: a full service name, or `service/Method`. Not together with `path`.',
  ),
});

// What is done with them ------------------------------------------------------------------------------------------

const rewrite = () =>
  z.union(
    [
      text(formats.pathRewrite),
      part(
        'PathRewrite',
        'A path with its kind spelled out.',
        {
          full: may(text(formats.name), 'This path, whatever came.'),
          prefix: may(text(formats.name), 'This in place of the prefix that the route matched.'),
        },
        exactlyOne('full', 'prefix'),
      ),
    ],
    { error: `expected ${formats.pathRewrite.expected}` },
  );
const rewriteOnce = rewrite();

const redirect = part('Redirect', 'A redirect made by the proxy. What is absent stays as it came.', {
  status: may(
    z.union([z.literal(301), z.literal(302), z.literal(303), z.literal(307), z.literal(308)], {
      error: 'expected 301, 302, 303, 307 or 308',
    }),
    'The status.',
    { default: 302 },
  ),
  scheme: may(oneOf('http', 'https'), 'The scheme.'),
  host: may(text(formats.name), 'The host, with a port where wanted.'),
  path: may(rewriteOnce, 'The path: `/this`, or `/this/*` in place of the matched prefix.'),
});

const respond = part('Respond', 'A response made by the proxy.', {
  status: must(whole(200, 599), 'The status.'),
  body: may(text(formats.text), 'The body, at most 64 KiB.', { default: '' }),
  contentType: may(text(formats.name), "The body's `content-type`.", {
    default: 'text/plain; charset=utf-8',
  }),
});

const headerEdits = {
  setHeaders: may(
    map(text(formats.text), 'header names with values'),
    'Headers set, replacing earlier values.',
    {
      examples: [{ 'x-env': 'test' }],
    },
  ),
  addHeaders: may(map(headerTexts(), 'header names with values'), 'Headers added beside earlier values.'),
  removeHeaders: may(
    list(text(formats.name), 'header names'),
    'Headers removed; before any is set or added.',
  ),
};
const responseEdits = part(
  'ResponseEdits',
  'Changes to the response, be it of a server or `redirect` or `respond`; not to errors of the proxy.',
  headerEdits,
);

const hashKinds = ['header', 'cookie', 'query'];
const hashKey = z.union(
  [
    z.literal('sourceAddress'),
    part(
      'HashKey',
      'What is hashed.',
      {
        header: may(text(formats.name), "A request header's value."),
        cookie: may(text(formats.name), "A cookie's value."),
        query: may(text(formats.name), "A query parameter's value."),
      },
      exactlyOne(...hashKinds),
    ),
  ],
  { error: 'expected { header: NAME }, { cookie: NAME }, { query: NAME } or sourceAddress' },
);

export const route = part(
  'Route',
  'One route: which requests, what is changed, where they go. The most specific route wins, wherever it stands.',
  {
    name: may(text(formats.name), 'A metric label, unique within its table.', {
      default: 'made from the match',
    }),
    match: may(match, 'Which requests it takes. Absent: all.'),
    to: may(targets, 'The cluster, address or weighted clusters that get the requests.'),
    redirect: may(redirect, 'Or: a redirect.'),
    respond: may(
      z.union([whole(200, 599), respond], { error: 'expected a status such as 204, or { status, body }' }),
      'Or: a response made here, `204` or `{ status: 200, body: hello }`.',
    ),
    ...headerEdits,
    response: may(responseEdits, 'The same changes for the response.'),
    rewritePath: may(
      rewriteOnce,
      'The path that is sent on: `/this` whatever came, `/this/*` in place of the matched prefix.',
    ),
    host: may(
      z.union(
        [
          text(formats.name),
          part('HostName', 'A host that is called `keep` or `upstream`.', {
            set: must(text(formats.name), 'The host.'),
          }),
        ],
        { error: 'expected keep, upstream or a host' },
      ),
      "The host that is sent on: `keep` as it came, `upstream` for the cluster's own name, or a host.",
      { default: 'keep' },
    ),
    timeout: may(
      z.union(
        [
          duration(),
          part('RouteTimeouts', 'Deadlines of a route. `0s` switches one off.', {
            request: may(
              duration(),
              "From the request's head to the response's end. 504 after, or `grpc-status: 4`.",
            ),
            streamIdle: may(duration(), 'A body on which nothing moves.'),
          }),
        ],
        { error: `expected ${formats.duration.expected}` },
      ),
      "The deadline for the response's end: `2s`, or `{ request, streamIdle }`.",
      { default: "the listener's", examples: ['2s'] },
    ),
    hashKey: may(
      z.union([hashKey, z.array(hashKey)], {
        error:
          'expected { header: NAME }, { cookie: NAME }, { query: NAME }, sourceAddress, or a list of these',
      }),
      'What consistent hashing hashes, the first that is present: `{ header: x-user }`, `{ cookie: id }`, `{ query: id }`, `sourceAddress`. Clusters of other balancers do without.',
    ),
  },
  exactlyOne('to', 'redirect', 'respond'),
);
