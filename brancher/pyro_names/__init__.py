"""Small functions that Pyro's programs import from its utility modules; :mod:`brancher.moved` finds them."""
