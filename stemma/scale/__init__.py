"""Many replicas: what each of them caches, as events tell it, and requests sent to where their prefixes are."""
