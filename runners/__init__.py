import utils  # noqa: F401  before torch, which it prepares
