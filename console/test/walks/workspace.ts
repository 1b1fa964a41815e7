import assert from "node:assert/strict";
import type { Watch } from "../rig";

export async function create(watch: Watch, project: string): Promise<void> {
  const { page } = watch;
  await watch.inspect("workspaces-none");
  await page.getByRole("button", { name: "New workspace" }).click();
  const dialog = page.getByRole("dialog", { name: "New workspace" });
  await dialog.getByLabel("Name").fill("not a name");
  await dialog.getByRole("radio", { name: /^python/ }).check();
  await dialog.getByRole("button", { name: "Create" }).click();
  await dialog.getByText("Letters, digits, hyphens").waitFor();
  await watch.inspect("create");
  await dialog.getByLabel("Name").fill(project);
  await dialog.getByRole("button", { name: "Create" }).click();
  await page.getByRole("heading", { name: project }).waitFor();
  await page.getByText("Running", { exact: true }).waitFor();
  // Two looks make a plot.
  await page.getByRole("img", { name: /^CPU over/ }).locator(".area").waitFor({ state: "attached" });
  await page.getByLabel("After (minutes)").fill("45");
  await page.getByRole("button", { name: "Save" }).click();
  await page.getByText("Saved.").waitFor();
  await watch.inspect("workspace");
  await watch.narrow("workspace");
}

export async function sleepAndWake(watch: Watch, project: string): Promise<void> {
  const { page } = watch;
  await page.getByRole("link", { name: "Overview" }).click();
  assert.equal(await page.getByLabel("After (minutes)").inputValue(), "45", "settings are kept");
  await page.getByRole("button", { name: `Put ${project} to sleep` }).click();
  await page.getByText("Asleep", { exact: true }).waitFor();
  await watch.inspect("workspace-asleep");
  await page.getByRole("link", { name: "Jobs" }).click();
  await page.getByText("It does not run now.").waitFor();
  await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "Workspaces" }).click();
  const row = page.getByRole("listitem").filter({ hasText: project });
  await row.getByText("Asleep").waitFor();
  await row.getByRole("button", { name: `Wake ${project}` }).click();
  await row.getByText("Running").waitFor();
  await row.getByRole("img", { name: /^CPU/ }).locator(".area").waitFor({ state: "attached" });
  await watch.inspect("workspaces");
  await watch.narrow("workspaces");
  await page.getByRole("searchbox").fill("no such name");
  await page.getByText("No workspace is like that.").waitFor();
  await page.getByRole("searchbox").fill(project.slice(-4));
  await row.waitFor();
  await page.getByRole("searchbox").fill("");
}

export async function remove(watch: Watch, project: string): Promise<void> {
  const { page } = watch;
  await page.getByRole("navigation", { name: "Console" }).getByRole("link", { name: "Workspaces" }).click();
  await page.getByRole("button", { name: `Delete ${project}` }).click();
  const dialog = page.getByRole("dialog", { name: `Delete ${project}?` });
  assert.equal(
    await dialog.getByRole("button", { name: "Cancel" }).evaluate((element) => element === document.activeElement),
    true,
    "Enter must not delete",
  );
  await watch.inspect("delete");
  await dialog.getByRole("button", { name: "Delete" }).click();
  await page.getByText(`${project} was deleted.`).waitFor();
  await page.getByText("No workspaces yet").waitFor();
  watch.expectRefusal();
  await page.goto(`${watch.place.http}/console/#/w/${project}`);
  await page.getByText(`There is no workspace ${project}.`).waitFor();
}
