// The terminal's library writes style sheets as text of <style> elements, and colours into `style`
// attributes. The page's policy forbids both, and forbids neither sheets that a script has built nor
// an element's `style` object: so the text goes there.
//
// Must never happen here: anything of this for an element that is not a <style> or a <span>.

let isDone = false;

/** From now on, what `document.createElement` makes of these two keeps the policy. Preact has its own way. */
export function keepThePolicy(): void {
  if (isDone) return;
  isDone = true;
  const create = document.createElement;
  document.createElement = function (this: Document, name: string, options?: ElementCreationOptions) {
    if (name === "style") return sheet();
    const element = create.call(this, name, options);
    if (name === "span") element.setAttribute = setAttribute;
    return element;
  } as typeof document.createElement;
}

function setAttribute(this: HTMLElement, name: string, value: string): void {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
}

/** Looks like a <style> to who writes its text and removes it. */
function sheet(): HTMLElement {
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  const element = document.createElementNS("http://www.w3.org/1999/xhtml", "span") as HTMLElement;
  element.hidden = true;
  Object.defineProperty(element, "textContent", {
    get: () => "",
    set: (text: string) => sheet.replaceSync(text),
  });
  element.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((other) => other !== sheet);
    Element.prototype.remove.call(element);
  };
  return element;
}
