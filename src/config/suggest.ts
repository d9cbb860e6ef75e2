/** What did the writer mean? The known word that is nearest to the one that was written. */

/** Words longer than this are not compared: nobody mistypes them by a letter. */
const LONGEST = 64;

/** The known word within a third of the letters, at least one; letter case and `-` or `_` cost nothing. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  if (word.length > LONGEST) return undefined;
  const simple = (text: string): string => text.toLowerCase().replaceAll(/[-_\s]/g, '');
  const wanted = simple(word);
  const ranked = known
    .filter((candidate) => candidate.length <= LONGEST)
    .map((candidate) => ({ candidate, distance: distanceOf(wanted, simple(candidate)) }))
    .toSorted((a, b) => a.distance - b.distance);
  const [best] = ranked;
  return best && best.distance <= Math.max(1, Math.floor(wanted.length / 3)) ? best.candidate : undefined;
}

/** What to write instead of a word that is none of those that are known. */
export function instead(word: string, known: readonly string[]): string {
  const meant = nearest(word, known);
  return meant ? `did you mean ${meant}?` : `expected one of ${known.join(', ')}`;
}

/** Levenshtein's distance with swaps of neighbours (optimal string alignment). */
function distanceOf(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const at = (cells: number[], index: number): number => cells[index] ?? Number.POSITIVE_INFINITY;
      const same = a[row - 1] === b[column - 1] ? 0 : 1;
      let cost = Math.min(at(above, column) + 1, at(current, column - 1) + 1, at(above, column - 1) + same);
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        cost = Math.min(cost, at(before, column - 2) + 1);
      }
      current.push(cost);
    }
    before = above;
    above = current;
  }
  return above[b.length] ?? Number.POSITIVE_INFINITY;
}
