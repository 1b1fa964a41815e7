// The part of a workspace's tree that is known: a directory's entries by its path. Pure.

import type { FileInfo } from "./types";

export type Node = FileInfo;
export type Tree = Readonly<Record<string, readonly Node[]>>;

/** Directories first, then by name as people sort them. */
function order(a: Node, b: Node): number {
  const first = Number(b.type === "directory") - Number(a.type === "directory");
  return first || a.name.localeCompare(b.name, "en", { numeric: true });
}

/** The directory that a path is in; the root is empty. */
export function parent(path: string): string {
  return path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
}

/** All directories above a path, the root first. */
export function ancestors(path: string): string[] {
  const parts = path.split("/").slice(0, -1).filter((part) => part !== "");
  return ["", ...parts.map((_, index) => parts.slice(0, index + 1).join("/"))];
}

export function children(tree: Tree, directory: string): readonly Node[] | undefined {
  return Object.hasOwn(tree, directory) ? tree[directory] : undefined;
}

export function withChildren(tree: Tree, directory: string, files: FileInfo[]): Tree {
  return { ...tree, [directory]: [...files].sort(order) };
}

/** Without what is at a path, and under it. */
export function without(tree: Tree, path: string): Tree {
  const left = Object.entries(tree).filter(([known]) => known !== path && !known.startsWith(`${path}/`));
  return Object.fromEntries(left.map(([known, nodes]) => [known, nodes.filter((node) => node.path !== path)]));
}

const IMAGES: Record<string, string> = {
  png: "image/png",
  jpg: "image/jpeg",
  jpeg: "image/jpeg",
  gif: "image/gif",
  webp: "image/webp",
  avif: "image/avif",
  ico: "image/x-icon",
};

export type Kind = { kind: "text"; text: string } | { kind: "image"; blob: Blob } | { kind: "bytes" };

/**
 * What can be shown of a file. An image by its name, and as nothing but an image: a vector graphic
 * is text here. Text is what is UTF-8 and has no NUL in it.
 */
export async function kindOf(path: string, blob: Blob): Promise<Kind> {
  const extension = path.slice(path.lastIndexOf(".") + 1).toLowerCase();
  const type = Object.hasOwn(IMAGES, extension) ? IMAGES[extension] : undefined;
  if (type !== undefined) return { kind: "image", blob: new Blob([blob], { type }) };
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(await blob.arrayBuffer());
    return text.includes("\0") ? { kind: "bytes" } : { kind: "text", text };
  } catch {
    return { kind: "bytes" };
  }
}
