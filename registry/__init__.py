"""Find named parts, load plug-ins, check them against the contract and attribute errors to them."""
