import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [svelte()],
  cacheDir: "/workspace/.home/.cache/vite",
  server: {
    host: "0.0.0.0",
    port: 5173,
    strictPort: true,
    fs: { allow: ["/workspace", "/node_modules"] },
  },
});
