import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react({ include: /src\/.*\.[jt]sx?$/ })],
  // JSX in plain .js files too.
  esbuild: { loader: "tsx", include: /src\/.*\.[jt]sx?$/, exclude: [] },
  optimizeDeps: { esbuildOptions: { loader: { ".js": "jsx" } } },
  cacheDir: "/workspace/.home/.cache/vite",
  server: {
    host: "0.0.0.0",
    port: 5173,
    strictPort: true,
    fs: { allow: ["/workspace", "/node_modules"] },
  },
});
