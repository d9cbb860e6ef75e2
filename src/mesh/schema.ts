/**
 * What may people write about a mesh?
 *
 * One schema of the mesh file, as `config/schema.ts` is one of configurations and from the same pieces: the types in
 * `types.ts`, the JSON Schema and the tables in `docs/mesh-file.md` are made from it. It knows shape only. Which
 * services there are is looked at by `check.ts`, what resources mean by the core.
 */

import { z } from 'zod';
import { type Book, CONFIG } from '../config/describe.js';
import { name, pem, text as anyText } from '../config/formats.js';
import {
  atMostOne,
  duration,
  exactlyOne,
  flag,
  list,
  listOf,
  may,
  must,
  named,
  oneOf,
  part,
  text,
  together,
  whole,
} from '../config/schema-kit.js';
import { headerConditions, route } from '../config/schema-route.js';
import { endpointList } from '../discovery/endpoint-schema.js';
import * as formats from './formats.js';

const outsideTls = part(
  'OutsideTls',
  'TLS towards servers outside of the mesh. Sidecars are told it, so it holds no key.',
  {
    serverName: may(text(name), 'The name sent as SNI and verified in the certificate.', {
      default: 'the DNS name in `address`',
    }),
    roots: may(text(pem), 'Roots to trust: a PEM file, which the control plane follows, or PEM text.', {
      default: "those of each sidecar's system",
    }),
  },
);

const portNumber = () => whole(1, 65_535);
const protocol = () => oneOf('auto', 'http1', 'http2', 'tcp');

const etcd = part(
  'Etcd',
  'Endpoints in etcd: the value of each key is an address, or an endpoint in JSON.',
  {
    endpoints: must(listOf(text(formats.etcdUrl), formats.etcdUrl.expected), 'Where etcd answers.'),
    prefix: must(text(formats.etcdPrefix), 'What its keys begin with.'),
    user: may(text(name), 'A user of etcd.'),
    passwordFile: may(text(name), 'The file with its password.'),
    roots: may(text(name), 'Whom to believe, a PEM file.', { default: "the system's" }),
    certificate: may(text(name), 'A client certificate, a PEM file.'),
    key: may(text(name), 'Its key, a PEM file.'),
  },
  together('user', 'passwordFile'),
  together('certificate', 'key'),
);

const servicePort = part('ServicePort', 'One more port of a service.', {
  port: must(portNumber(), 'The port that others call it by.'),
  protocol: may(protocol(), 'What is spoken on it, as for `protocol` of a service.', { default: 'auto' }),
});

const discover = part('Discover', 'Where endpoints come from. Several sources are one list.', {
  endpoints: may(endpointList, 'They are these.', {
    examples: [['10.0.0.7:4143', { address: '10.0.0.8:4143', weight: 2 }]],
  }),
  file: may(text(name), 'A list of endpoints, YAML or JSON, that is watched.', {
    examples: ['endpoints.yaml'],
  }),
  etcd: may(etcd, 'A prefix in etcd.'),
  registered: may(flag(), 'Whether its sidecars announce themselves.', {
    default: '`true` where there is no other source',
  }),
  outside: may(flag(), 'Whether endpoints are outside of the mesh, with no identity to prove.', {
    default: false,
  }),
});

const service = part(
  'Service',
  'One service: processes that `mesh up` starts, addresses outside of the mesh, or endpoints that are discovered.',
  {
    run: may(
      text(formats.command),
      'The command, run by `sh`. `{port}` is the port that this copy listens on, `{port.NAME}` the one for `ports.NAME`.',
    ),
    address: may(
      listOf(text(formats.serviceAddress), formats.serviceAddress.expected),
      'Or: where it answers, outside of the mesh. A list of IP addresses, or one DNS name.',
    ),
    discover: may(discover, 'Or: where its endpoints come from.', {
      default: 'its sidecars, which announce themselves',
    }),
    port: may(
      portNumber(),
      'The port that others call it by; `http://NAME` always works too. The process listens on the one in `PORT`.',
      { default: '80, or that of `address`' },
    ),
    ports: may(
      named(
        formats.label,
        z.union([portNumber(), servicePort], {
          error: 'expected a port such as 9000, or { port, protocol }',
        }),
        'expected names with ports',
      ),
      'More ports, by name. The process listens on the ones in `PORT_NAME`.',
      { examples: [{ grpc: 9000 }] },
    ),
    protocol: may(
      protocol(),
      'What is spoken on `port`: `auto` detects it from the first bytes, `tcp` is opaque: nobody looks at a byte, nothing is waited for, and either side may speak first.',
      { default: 'auto' },
    ),
    copies: may(whole(1, 100), 'How many processes.', { default: 1 }),
    env: may(
      named(formats.environmentName, text(anyText), 'expected variables with texts'),
      'Variables for it, beside those of `mesh up` itself; not those by which it is told of the mesh.',
    ),
    cwd: may(text(name), 'The folder it runs in.', { default: "the file's" }),
    ready: may(
      z.union(
        [
          z.literal('tcp'),
          part('Probe', 'How to see that a copy is ready.', {
            http: must(text(formats.httpPath), 'A path that answers 2xx or 3xx to `GET` once it is.'),
          }),
        ],
        { error: 'expected tcp, or { http: /path }' },
      ),
      'When a copy is ready: its port accepts, or a path answers.',
      { default: 'tcp' },
    ),
    bind: may(
      part('Bind', 'Ports of this machine instead of free ones. Each further copy takes the next.', {
        port: may(portNumber(), 'What is in `PORT`.'),
        inbound: may(portNumber(), 'Where the sidecar answers others.'),
        outbound: may(portNumber(), 'Where it takes what the copy sends.'),
        admin: may(portNumber(), 'Where its health and metrics are.'),
      }),
      'Ports of this machine to take, instead of free ones.',
    ),
    grace: may(duration(), 'How long it may take to end when asked.', { default: '10s' }),
    tls: may(
      z.union([flag(), outsideTls], { error: 'expected true, false or { serverName, roots }' }),
      'TLS towards what is outside of the mesh: `true`, or `{ serverName, roots }`.',
      { default: false },
    ),
  },
  atMostOne('run', 'address', 'discover'),
  ...['ports', 'copies', 'env', 'cwd', 'ready', 'bind', 'grace'].map((key) => atMostOne('address', key)),
  atMostOne('run', 'tls'),
);

const permissions = () =>
  z.union(
    [
      z.literal(true),
      text(formats.permission),
      list(text(formats.permission), 'requests such as GET /items'),
    ],
    { error: `expected true, or ${formats.permission.expected}` },
  );

const policy = part(
  'Policy',
  'Who may do what to whom. A service with any `allow` denies what none allows, `deny` wins, and order means nothing.',
  {
    name: may(text(name), 'A metric label, unique.', { default: '`policy-1`, counted' }),
    to: must(
      listOf(text(formats.serviceOrAll), formats.serviceOrAll.expected),
      'The services that are called; `*` is all of them.',
    ),
    from: may(
      listOf(text(formats.peer), formats.peer.expected),
      'Who calls: services, `*` (whoever has an identity), `anyone`, `ns/NAMESPACE`, SPIFFE ids, networks.',
      { default: '`*` for `allow`, `anyone` for `deny`' },
    ),
    ports: may(list(portNumber(), 'ports'), 'Calls to these ports only.'),
    allow: may(
      permissions(),
      'What may be done: `true` (everything), or requests such as `GET /items` and `grpc shop.Basket/Get`.',
    ),
    deny: may(permissions(), 'Or: what may not be done.'),
    headers: may(headerConditions, 'Only requests whose headers meet these conditions.'),
    audit: may(flag(), 'Whether it is only told what it would have denied.', { default: false }),
  },
  exactlyOne('allow', 'deny'),
);

const settings = part('MeshSettings', 'What holds for all services.', {
  trustDomain: may(text(formats.trustDomain), 'Who vouches for identities.', { default: 'mesh.local' }),
  namespace: may(text(formats.label), 'The namespace of the services.', { default: 'default' }),
  defaultPolicy: may(
    oneOf('allow', 'allowAuthenticated', 'deny'),
    'What may be done to a service that no `allow` names.',
    { default: 'allowAuthenticated' },
  ),
  certificates: may(
    part('Certificates', 'Certificates of the copies.', {
      ttl: may(text(formats.lifetime), 'How long each is valid, 1 minute to 30 days (`720h`).', {
        default: '24h',
      }),
      issuer: may(
        part('Issuer', 'An issuer of yours, in files that are looked at again each minute.', {
          chain: must(text(name), 'PEM: its certificate, and those up to the root, without it.'),
          key: must(text(name), 'PEM: its key.'),
          roots: must(text(name), 'PEM: the roots to trust. Their keys may be off-line.'),
        }),
        'Who signs. Default: an issuer and a root that are made at the first start.',
      ),
    }),
    'How they are signed.',
  ),
  shared: may(
    part('Shared', 'What several control planes share, so that each answers the same.', {
      etcd: must(etcd, 'Where. Below the prefix are the issuer, encrypted, and the sidecars of each.'),
      keyFile: may(
        text(name),
        'A file with at least 32 letters, the same for all: `openssl rand -hex 32`. Needed unless `certificates` has an `issuer`.',
      ),
    }),
    'For `mesh control`, several times over one etcd.',
  ),
  opaquePorts: may(
    list(
      z.union([portNumber(), text(formats.portRange)], {
        error: `expected ${formats.portRange.expected}`,
      }),
      'ports',
    ),
    'Ports outside of the mesh to which copies call without anybody looking at the bytes, as where the server speaks first.',
    { examples: [[25, '8000-8010']], default: "the sidecar's own list: mail, databases, caches" },
  ),
  knownServicesOnly: may(flag(), 'Whether copies may call nothing but services.', { default: false }),
});

/** The mesh file that people write, as YAML, JSON or a TypeScript object. */
export const schema = part('Mesh', 'A mesh: its services, who may call whom, and which way.', {
  $schema: may(text(anyText), 'The JSON Schema, for editors.'),
  mesh: may(settings, 'Trust domain, namespace, defaults.'),
  services: must(named(formats.label, service, 'expected names with services'), 'The services, by name.'),
  routes: may(
    named(formats.servicePort, list(route, 'routes'), 'expected services with lists of routes'),
    'Which way requests to a service take, by its name or `NAME:PORT`; `to` names services. What no route takes goes to the service itself.',
  ),
  policies: may(list(policy, 'policies'), 'Who may do what to whom.', { default: [] }),
});

/** The inferred shape; the documented one is `MeshConfig` in `types.ts`, and a test holds them equal. */
export type MeshShape = z.input<typeof schema>;

/** What is made of it. */
export const MESH: Book = {
  schema,
  root: 'Mesh',
  title: 'Mesh file of @mesh/proxy',
  source: 'schema.ts',
  beside: { book: CONFIG, types: '../config/types.js', page: 'configuration.md' },
};
