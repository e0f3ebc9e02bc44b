/**
 * Notebooks that this extension made and that are to run as soon as they are open.
 *
 * Notebook 7 opens a notebook in a browser tab of its own, so the word is left in the browser's
 * storage, where that tab finds it. Never in the notebook: a file from a stranger must not run by
 * itself.
 */

import { PageConfig } from '@jupyterlab/coreutils';

/** How long the word counts, in milliseconds: a tab that never opened is forgotten. */
const LIFETIME = 60_000;

export function leaveWord(path: string): void {
  localStorage.setItem(key(path), String(Date.now() + LIFETIME));
}

/** Whether this notebook is to run now. True once. */
export function takeWord(path: string): boolean {
  const until = Number(localStorage.getItem(key(path)));
  localStorage.removeItem(key(path));
  return Date.now() < until;
}

/** Servers on one host share the browser's storage if only their paths differ. */
function key(path: string): string {
  return `ucxnb:run:${PageConfig.getBaseUrl()}:${path}`;
}
