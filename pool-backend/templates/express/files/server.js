import express from "express";

const app = express();

app.get("/", (request, response) => {
  response.send("<h1>Hello from Express</h1>");
});

app.get("/api/health", (request, response) => {
  response.json({ status: "ok" });
});

app.listen(3000, "0.0.0.0");
