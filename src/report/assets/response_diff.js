// Differences between neighboring responses, word by word.
const responseDiff = (() => {
  "use strict";

  // The largest table of the comparison. Longer texts are marked as a whole between their common start and end.
  const MAX_CELLS = 4e6;

  /** Splits a text into words, numbers and signs, each with the white space after it. */
  const words = (text) => text.match(/^\s+|(?:[\p{L}\p{M}]+|\p{N}+|[^\s\p{L}\p{M}\p{N}])\s*/gu) ?? [];

  /** Marks the words that the other text does not have, `{inFirst, inSecond, complete}`; arrays of booleans, one for each word. */
  const compare = (first, second) => {
    const a = first.map((word) => word.trim());
    const b = second.map((word) => word.trim());
    const inFirst = new Array(a.length).fill(false);
    const inSecond = new Array(b.length).fill(false);
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
    let endA = a.length;
    let endB = b.length;
    while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) [endA, endB] = [endA - 1, endB - 1];
    inFirst.fill(true, start, endA);
    inSecond.fill(true, start, endB);
    const complete = (endA - start) * (endB - start) <= MAX_CELLS;
    if (complete) unmarkCommon(a.slice(start, endA), b.slice(start, endB), start, inFirst, inSecond);
    return { inFirst, inSecond, complete };
  };

  /** Unmarks a longest common subsequence. */
  const unmarkCommon = (a, b, start, inFirst, inSecond) => {
    const width = b.length + 1;
    const lengths = new Uint16Array((a.length + 1) * width);
    for (let i = a.length - 1; i >= 0; i -= 1) {
      for (let j = b.length - 1; j >= 0; j -= 1) {
        const at = i * width + j;
        lengths[at] = a[i] === b[j] ? lengths[at + width + 1] + 1 : Math.max(lengths[at + width], lengths[at + 1]);
      }
    }
    for (let i = 0, j = 0; i < a.length && j < b.length; ) {
      if (a[i] === b[j]) {
        inFirst[start + i] = false;
        inSecond[start + j] = false;
        [i, j] = [i + 1, j + 1];
      } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i += 1;
      else j += 1;
    }
  };

  /** Joins words with the same marks into segments `{text, fresh, gone}`. White space between segments has no marks. */
  const segments = (parts, fresh, gone) => {
    const joined = [];
    parts.forEach((text, index) => {
      const last = joined.at(-1);
      const marks = { fresh: fresh[index] ?? false, gone: gone[index] ?? false };
      if (last && last.fresh === marks.fresh && last.gone === marks.gone) last.text += text;
      else joined.push({ text, ...marks });
    });
    return joined.flatMap((segment) => {
      const end = segment.text.trimEnd().length;
      if (!(segment.fresh || segment.gone) || end === segment.text.length) return [segment];
      return [{ ...segment, text: segment.text.slice(0, end) }, { text: segment.text.slice(end), fresh: false, gone: false }];
    });
  };

  /** Marks each text's words that the text before it does not have (`fresh`) or the text after it does not have (`gone`). */
  const mark = (texts) => {
    const parts = texts.map(words);
    const pairs = parts.slice(1).map((second, index) => compare(parts[index], second));
    const marked = parts.map((part, index) => segments(part, pairs[index - 1]?.inSecond ?? [], pairs[index]?.inFirst ?? []));
    return { marked, complete: pairs.every((pair) => pair.complete) };
  };

  return { mark };
})();
