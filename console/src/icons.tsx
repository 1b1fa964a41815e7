// Drawings of 16 by 16, in the colour of the text. They say nothing that a label does not.

const PATHS = {
  plus: "M8 3v10M3 8h10",
  moon: "M13 9.6A5.5 5.5 0 0 1 6.4 3 5.5 5.5 0 1 0 13 9.6Z",
  sun: "M8 5.2a2.8 2.8 0 1 0 0 5.6 2.8 2.8 0 0 0 0-5.6ZM8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8 13 13M13 3l-1.2 1.2M4.2 11.8 3 13",
  restart: "M13 8a5 5 0 1 1-1.6-3.7M13 2v3h-3",
  trash: "M2.5 4.5h11M6 4.5V3h4v1.5M4 4.5l.6 8.5h6.8l.6-8.5M6.7 7v3.5M9.3 7v3.5",
  open: "M6 3H3v10h10v-3M9 3h4v4M13 3 7.5 8.5",
  folder: "M2 4.5V12a1 1 0 0 0 1 1h10a1 1 0 0 0 1-1V6a1 1 0 0 0-1-1H8L6.5 3H3a1 1 0 0 0-1 1Z",
  file: "M4 2h5l3 3v9H4ZM9 2v3h3",
  chevron: "m6 4 4 4-4 4",
  upload: "M8 11V3M4.5 6 8 2.5 11.5 6M3 13h10",
  download: "M8 3v8M4.5 8 8 11.5 11.5 8M3 13.5h10",
  copy: "M6 6h7v7H6ZM3 10V3h7",
  search: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9ZM10.3 10.3 14 14",
  close: "m4 4 8 8M12 4l-8 8",
  play: "M5 3v10l8-5Z",
  stop: "M4 4h8v8H4Z",
  link: "M6.5 9.5 9.5 6.5M7.5 5 9 3.5a2.5 2.5 0 0 1 3.5 3.5L11 8.5M8.5 11 7 12.5A2.5 2.5 0 0 1 3.5 9L5 7.5",
  help: "M8 1.8a6.2 6.2 0 1 0 0 12.4A6.2 6.2 0 0 0 8 1.8ZM6.3 6.3a1.8 1.8 0 1 1 2.6 1.6c-.6.3-.9.7-.9 1.3M8 11.3v.1",
  leave: "M9 3H3v10h6M7 8h7M11.5 5.5 14 8l-2.5 2.5",
  save: "M3 3h8l2 2v8H3ZM5.5 3v3h4V3M5.5 13v-4h5v4",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="8" />
      <path d="M9 22c5 0 4-12 9-12 3 0 5 2 5 4" />
      <path class="bright" d="M9 16h10" />
    </svg>
  );
}
