import assert from "node:assert/strict";
import type { Page } from "playwright-core";
import type { Watch } from "../rig";

/** Everything that a mouse did, with keys only: sign in, make, look around, sleep, wake, delete. */
export async function keyboard(watch: Watch): Promise<void> {
  const { page, place } = watch;
  const press = (keys: string) => page.keyboard.press(keys);
  const project = `keys-${process.pid}`;
  await page.reload();
  await page.getByLabel("API key").waitFor();
  await page.keyboard.type(place.key);
  // The page is still at a workspace that is gone.
  watch.expectRefusal();
  await press("Enter");
  await page.getByText("There is no workspace").waitFor();

  await press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await watch.inspect("shortcuts");
  await press("Escape");
  await press("g");
  await press("w");
  await page.getByRole("heading", { name: "Workspaces" }).waitFor();
  await press("n");
  const dialog = page.getByRole("dialog", { name: "New workspace" });
  await dialog.getByRole("radio", { name: /^python/ }).waitFor();
  await page.keyboard.type(project);
  await press("Enter");
  await page.getByRole("heading", { name: project }).waitFor();
  await page.getByText("Running", { exact: true }).waitFor();
  await press("3");
  await page.getByRole("region", { name: "Files" }).waitFor();
  await press("5");
  await page.getByLabel("Run in the background").waitFor();
  await press("1");
  await page.getByRole("heading", { name: "In use" }).waitFor();

  await reach(page, `Put ${project} to sleep`);
  await press("Enter");
  await page.getByText("Asleep", { exact: true }).waitFor();
  await reach(page, `Wake ${project}`);
  await press("Space");
  await page.getByText("Running", { exact: true }).waitFor();
  await press("g");
  await press("k");
  await page.getByRole("heading", { name: "Keys" }).waitFor();
  await press("g");
  await press("w");
  await press("/");
  await page.keyboard.type(project);
  await page.getByRole("listitem").filter({ hasText: project }).waitFor();
  await reach(page, `Delete ${project}`);
  await press("Enter");
  await page.getByRole("dialog", { name: `Delete ${project}?` }).waitFor();
  await press("Tab");
  await press("Enter");
  await page.getByText(`${project} was deleted.`).waitFor();

  // The first stop of Tab leads past the bar.
  await page.evaluate(() => (document.activeElement as HTMLElement | null)?.blur());
  await press("g");
  await press("k");
  await page.getByRole("heading", { name: "Keys" }).waitFor();
  await press("Shift+Tab");
  await reach(page, "Skip to content", "Shift+Tab");
  await press("Enter");
  assert.equal(await page.evaluate(() => document.activeElement?.id), "main");
}

/** Presses Tab until something of that name has the focus, and looks whether that is seen. */
async function reach(page: Page, name: string, key = "Tab"): Promise<void> {
  for (let presses = 0; presses < 60; presses += 1) {
    const here = await page.evaluate(() => {
      const element = document.activeElement as HTMLElement | null;
      const style = element && getComputedStyle(element);
      const seen = style !== null && (style.outlineStyle !== "none" || element?.classList.contains("skip"));
      return { name: element?.getAttribute("aria-label") ?? element?.textContent ?? "", seen };
    });
    if (here.name === name) {
      assert.ok(here.seen, `the focus is not seen on ${name}`);
      return;
    }
    await page.keyboard.press(key);
  }
  assert.fail(`${name} is not reached with ${key}`);
}
