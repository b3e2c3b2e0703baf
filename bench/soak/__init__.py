"""How memory and disk stay bounded under load that never ends."""
