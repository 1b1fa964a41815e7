import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { Watch } from "../rig";

const PROGRAM = 'for n in range(3):\n    print("line", n)\n';

export async function files(watch: Watch): Promise<void> {
  const { page } = watch;
  const saved = async () => {
    const notice = page.getByText("Saved.").last();
    await page.getByRole("button", { name: "Save" }).click();
    await notice.waitFor();
  };
  await page.getByRole("link", { name: "Files" }).click();
  await page.getByRole("button", { name: "New file" }).click();
  await page.getByLabel("Path").fill("src/hello.py");
  await page.getByRole("button", { name: "Make it" }).click();
  const editor = page.getByRole("textbox", { name: "Text of src/hello.py" });
  await editor.fill(PROGRAM);
  await saved();
  await editor.fill(`${PROGRAM}# changed\n`);
  await editor.press("Control+s");
  await page.getByText("(changed)").waitFor({ state: "detached" });

  await page.getByLabel("Files to upload").setInputFiles([
    { name: "picture.png", mimeType: "image/png", buffer: onePixel() },
    { name: "bytes.bin", mimeType: "application/octet-stream", buffer: Buffer.from([0, 255, 1]) },
  ]);
  await page.getByText("bytes.bin is there.").waitFor();
  const entry = (name: string) => page.getByRole("button", { name, exact: true });
  await entry("picture.png").click();
  await page.getByRole("img", { name: "src/picture.png" }).waitFor();
  await entry("bytes.bin").click();
  await page.getByText("It is not text.").waitFor();
  await entry("hello.py").click();
  await editor.waitFor();
  await watch.inspect("files");
  await watch.narrow("files");

  const download = page.waitForEvent("download");
  await page.getByRole("button", { name: "Download src/hello.py" }).click();
  const file = await (await download).path();
  assert.equal(readFileSync(file, "utf8"), `${PROGRAM}# changed\n`);

  await entry("bytes.bin").click();
  await page.getByRole("button", { name: "Delete src/bytes.bin" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
  await entry("bytes.bin").waitFor({ state: "detached" });
}

function onePixel(): Buffer {
  const text = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  return Buffer.from(text, "base64");
}
