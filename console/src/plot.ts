// The line of a small plot. Pure.

export interface Plot {
  line: string;
  area: string;
}

/**
 * Values from left to right over the whole width, the newest last; nothing for fewer than two. The
 * scale reaches from 0 to `top`, or further if a value does.
 */
export function plot(values: number[], width: number, height: number, top: number): Plot | null {
  if (values.length < 2) return null;
  const highest = Math.max(top, ...values);
  const step = width / (values.length - 1);
  const points = values.map((value, index) => {
    const part = highest > 0 ? Math.max(0, value) / highest : 0;
    return `${round(index * step)} ${round(height - part * height)}`;
  });
  const line = `M${points.join("L")}`;
  return { line, area: `${line}L${width} ${height}L0 ${height}Z` };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
