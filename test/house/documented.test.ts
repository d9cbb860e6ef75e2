// Is all that users can import described where their editor shows it?

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import ts from 'typescript';
import { files as filesBelow, root } from './support.js';

const ENTRIES = ['index', 'register', 'wasm/node', 'wasm/web'];

test('each export, and each member of it, has a comment', (t) => {
  const files = ENTRIES.map((entry) => join(root, 'dist', `${entry}.d.ts`));
  const program = ts.createProgram(files, {
    module: ts.ModuleKind.NodeNext,
    target: ts.ScriptTarget.ESNext,
    types: [],
  });
  const checker = program.getTypeChecker();
  const isOurs = (symbol: ts.Symbol): boolean =>
    symbol.declarations?.some((each) => each.getSourceFile().fileName.startsWith(join(root, 'dist'))) ??
    false;
  // What a class takes over from its base is described there.
  const isBare = (symbol: ts.Symbol): boolean =>
    isOurs(symbol) && symbol.getDocumentationComment(checker).length === 0;
  const bare = new Set<string>();
  let exports = 0;
  for (const file of files) {
    const source = program.getSourceFile(file);
    const module = source && checker.getSymbolAtLocation(source);
    for (const found of module ? checker.getExportsOfModule(module) : []) {
      const symbol = found.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(found) : found;
      exports += 1;
      if (isBare(symbol)) bare.add(symbol.name);
      if (!(symbol.flags & (ts.SymbolFlags.Class | ts.SymbolFlags.Interface))) continue;
      for (const member of checker.getDeclaredTypeOfSymbol(symbol).getProperties()) {
        if (isBare(member) && !/^(__@|#)/.test(member.name)) bare.add(`${symbol.name}.${member.name}`);
      }
    }
  }
  t.true(exports > 50);
  t.deepEqual([...bare], []);
});

test('each code of an error stands in the manual', (t) => {
  const codes = new Set<string>();
  for (const file of filesBelow(join(root, 'src'))) {
    const text = readFileSync(join(root, file), 'utf8');
    // Where a code is given: to a class, as a member, or by a table or a default. Variables have these names elsewhere.
    for (const [, code = ''] of text.matchAll(/(?:Error\(|super\(|: |code = |\?\? )\s*'(MESH_[A-Z_]+)'/g)) {
      codes.add(code);
    }
  }
  t.true(codes.size > 15, [...codes].join(' '));
  const page = readFileSync(join(root, 'docs', 'errors.md'), 'utf8');
  t.deepEqual(
    [...codes].filter((code) => !page.includes(`\`${code}\``)),
    [],
  );
});
