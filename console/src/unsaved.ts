// What was typed and is saved nowhere: asked about before it goes.

let unsaved: string | undefined;

/** Says what has changes that are not saved; undefined if nothing has. */
export function setUnsaved(what: string | undefined): void {
  unsaved = what;
}

/** Whether unsaved changes may go; asks, if there are any. */
export function mayLose(): boolean {
  return unsaved === undefined || window.confirm(`The changes of ${unsaved} are not saved. Throw them away?`);
}
