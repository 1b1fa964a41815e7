from fastapi import FastAPI

app = FastAPI(title="Workspace")


@app.get("/")
def home():
    return {"message": "Hello from FastAPI"}


@app.get("/items/{item_id}")
def item(item_id: int, q: str | None = None):
    return {"item_id": item_id, "q": q}
