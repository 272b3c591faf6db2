// Makes the pictures of the README: `npm run build && npm run screenshots`.
import { fileURLToPath } from "node:url";
import sharp from "sharp";
import { launch } from "./browser.mjs";

const browser = await launch();
for (const colorScheme of ["light", "dark"]) {
  const page = await browser.newPage({ colorScheme, viewport: { width: 1280, height: 800 } });
  await page.goto(new URL("dist/index.html", import.meta.url).href);
  const request = async (thread, tokens, button) => {
    await page.getByRole("radio", { name: thread, exact: true }).check();
    await page.locator("#tokens").fill(String(tokens));
    await page.getByRole("button", { name: button, exact: true }).click();
  };
  await request("planner", 30_000, "Consume");
  await request("writer", 36_000, "Consume");
  await request("writer", 20_000, "Consume");
  await request("reader", 31_000, "Consume");
  await request("researcher", 18_500, "Consume");
  await request("researcher", 14_000, "Hold");
  await request("researcher", 24_000, "Check");

  await page.getByRole("button", { name: "Use the sample" }).click();
  await page.locator("#player").waitFor();
  await page.locator("#scrub").fill("900");
  await page.getByText("900 of 1,200 records").waitFor();
  await page.getByRole("radio", { name: "researcher", exact: true }).focus();
  await page.evaluate(() => document.activeElement.blur());
  await page.waitForTimeout(400);
  const picture = await page.screenshot({ fullPage: true });
  const file = fileURLToPath(new URL(`screenshot-${colorScheme}.png`, import.meta.url));
  await sharp(picture).png({ palette: true, colours: 64, dither: 0, effort: 10 }).toFile(file);
}
await browser.close();
