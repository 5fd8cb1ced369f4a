NONFINITES: dict[str, int]
