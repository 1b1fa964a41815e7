import type { Watch } from "../rig";

export async function operators(watch: Watch, project: string): Promise<void> {
  const { page } = watch;
  await page.getByRole("link", { name: "Pools" }).click();
  const pool = page.getByRole("region", { name: "Pool of python" });
  await pool.getByText("Hit rate").waitFor();
  await watch.inspect("pools");
  await watch.narrow("pools");
  await page.getByRole("link", { name: "Wakes" }).click();
  const row = page.getByRole("row").filter({ hasText: project }).first();
  await row.getByText("from memory").waitFor();
  await row.getByText("by hand").waitFor();
  await watch.inspect("wakes");
  await watch.narrow("wakes");
}
