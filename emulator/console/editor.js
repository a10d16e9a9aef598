// The JSON editor. It lives in a shadow root, where its styles need no inline <style>, which our policy forbids.

import * as cm from "./vendor/editor.js";

/** @typedef {{from: number, to: number, severity: "error" | "warning", message: string}} Fault */

const COLOURS = cm.HighlightStyle.define([
  { tag: cm.tags.propertyName, color: "var(--accent)" },
  { tag: cm.tags.string, color: "var(--green)" },
  { tag: cm.tags.number, color: "var(--blue)" },
  { tag: [cm.tags.bool, cm.tags.null], color: "var(--amber)" },
]);
const LOOK = cm.EditorView.theme({
  "&": { fontSize: "12px", color: "var(--text)", backgroundColor: "var(--panel)", minHeight: "240px" },
  ".cm-content": { fontFamily: "var(--mono)", padding: "8px 0", caretColor: "var(--text)" },
  ".cm-gutters": { backgroundColor: "var(--panel)", color: "var(--quiet)", border: "none" },
  ".cm-activeLine": { backgroundColor: "transparent" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-2px" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  ".cm-tooltip": { backgroundColor: "var(--panel)", color: "var(--text)", border: "1px solid var(--line-strong)" },
  "&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--accent-soft)" },
});

/**
 * @param {string} text
 * @param {{label: string, run?: () => void, check?: (text: string) => Fault[], changed?: (text: string) => void}} options
 */
export function jsonEditor(text, { label, run, check, changed }) {
  const element = document.createElement("div");
  element.className = "editor";
  const root = element.attachShadow({ mode: "open" });
  const keys = [{ key: "Mod-Enter", run: () => (run?.(), true) }];
  const view = new cm.EditorView({
    root,
    parent: root,
    state: cm.EditorState.create({
      doc: text,
      extensions: [
        cm.keymap.of(keys), cm.lineNumbers(), cm.history(), cm.drawSelection(), cm.indentOnInput(), cm.bracketMatching(),
        cm.syntaxHighlighting(COLOURS), cm.json(), LOOK, cm.EditorView.lineWrapping,
        cm.linter((of) => {
          const found = cm.jsonParseLinter()(of);
          return found.length ? found : check?.(of.state.doc.toString()) ?? [];
        }, { delay: 200 }),
        cm.lintGutter(), cm.keymap.of([...cm.defaultKeymap, ...cm.historyKeymap]),
        cm.EditorView.contentAttributes.of({ "aria-label": label }),
        cm.EditorView.updateListener.of((update) => { if (update.docChanged) changed?.(update.state.doc.toString()); }),
      ],
    }),
  });
  return {
    element,
    get: () => view.state.doc.toString(),
    set: (/** @type {string} */ value) => view.dispatch({ changes: { from: 0, to: view.state.doc.length, insert: value } }),
    focus: () => view.focus(),
    close: () => view.destroy(),
  };
}
