// Every word the player says comes with the page, in the reader's language (annotation/views/player_texts.py).

let table = {};

export function useTexts(texts) {
  table = texts;
}

/** The text of that name, its %(placeholders)s filled in. */
export function t(name, values = {}) {
  if (!(name in table)) throw new Error(`The page brought no text '${name}'.`);
  return table[name].replace(/%\((\w+)\)s/g, (_, key) => values[key]);
}
