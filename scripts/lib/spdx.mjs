// May we ship something under this SPDX licence expression?
//
// Grammar (SPDX 2.3, annex D): `OR` binds weaker than `AND`; `WITH` adds an exception to one licence; the old
// crates.io form `MIT/Apache-2.0` means `OR`. An expression that cannot be read is refused.

/** True when the expression can be met with licences from `allowed` (a set of identifiers). */
export function isAllowed(expression, allowed) {
  const tokens = expression.replaceAll('/', ' OR ').match(/\(|\)|[^\s()]+/g) ?? [];
  let at = 0;

  const any = () => {
    let result = all();
    while (tokens[at] === 'OR') {
      at += 1;
      result = all() || result;
    }
    return result;
  };
  const all = () => {
    let result = one();
    while (tokens[at] === 'AND') {
      at += 1;
      result = one() && result;
    }
    return result;
  };
  const one = () => {
    const token = tokens[at];
    at += 1;
    if (token === '(') {
      const result = any();
      if (tokens[at] !== ')') at = Infinity;
      at += 1;
      return result;
    }
    let name = token;
    if (tokens[at] === 'WITH') {
      name = `${token} WITH ${tokens[at + 1]}`;
      at += 2;
    }
    return allowed.has(name);
  };

  const result = any();
  return result && at === tokens.length;
}
