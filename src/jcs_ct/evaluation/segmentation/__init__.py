"""How well are lesions outlined: per slice, pooled, by protocol, against other methods."""
