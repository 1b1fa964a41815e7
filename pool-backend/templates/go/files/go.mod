module workspace

go 1.19
