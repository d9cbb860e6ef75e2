// Does it run in a real browser, unbundled, and decide as the native core does?
//
// A page of ours loads what ships, asks, and sends back what it heard. Skipped where no browser is installed.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type IncomingMessage, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import test from 'ava';
import { good, nativeAnswers, requests } from './support.js';

const BROWSERS = ['chromium-headless-shell', 'chromium', 'google-chrome'];
const browser = BROWSERS.find((name) => spawnSync(name, ['--version'], { timeout: 20_000 }).status === 0);
const ifBrowser = browser === undefined ? test.skip : test;

const TYPES: Record<string, string> = { '.js': 'text/javascript', '.wasm': 'application/wasm' };

const PAGE = `<!doctype html><script type="module">
  const tell = (value) => fetch('/heard', { method: 'POST', body: JSON.stringify(value) });
  try {
    const { loadModel } = await import('/dist/wasm/web.js');
    const model = await loadModel();
    const cases = await (await fetch('/cases')).json();
    await tell(cases.map(({ resources, requests }) => ({
      issues: model.validate(resources),
      decisions: requests.map((request) => model.route(resources, request)),
    })));
  } catch (error) {
    await tell(String(error));
  }
</script>`;

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

ifBrowser('a browser loads what ships and gives the same answers', async (t) => {
  t.timeout(60_000);
  const cases = good.map(({ resources }, seed) => ({ resources, requests: requests(resources, 50, seed) }));
  let heard: (text: string) => void = () => {};
  const answer = new Promise<string>((resolve) => {
    heard = resolve;
  });
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    if (path === '/') response.setHeader('content-type', 'text/html').end(PAGE);
    else if (path === '/cases') response.end(JSON.stringify(cases));
    else if (path === '/heard')
      void bodyOf(request)
        .then(heard)
        .finally(() => response.end());
    else if (/^\/dist\/[\w/-]+\.(js|wasm)$/.test(path)) {
      response.setHeader('content-type', TYPES[extname(path)] ?? '').end(readFileSync(join('.', path)));
    } else response.writeHead(404).end();
  });
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve);
  });
  const folder = mkdtempSync(join(tmpdir(), 'browser-'));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run'];
  const child = spawn(browser ?? '', [...flags, `--user-data-dir=${folder}`, url], {
    stdio: 'ignore',
    detached: true,
  });
  const ended = new Promise<void>((resolve) => {
    child.once('close', () => resolve());
  });
  t.teardown(async () => {
    endGroup(child);
    await ended;
    server.close();
    server.closeAllConnections();
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  });
  const answers: unknown = JSON.parse(await Promise.race([answer, ended.then(() => '"the browser ended"')]));
  const expected = cases.map(({ resources, requests: asked }) => ({
    issues: [],
    decisions: asked.map((request) => nativeAnswers.route(JSON.stringify(resources), request)),
  }));
  t.deepEqual(answers, expected);
});

/** A browser is several processes; its group has them all. */
function endGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {
    // It has already ended.
  }
}
