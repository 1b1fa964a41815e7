from flask import Flask, jsonify

app = Flask(__name__)


@app.get("/")
def home():
    return "<h1>Hello from Flask</h1>"


@app.get("/api/health")
def health():
    return jsonify(status="ok")
