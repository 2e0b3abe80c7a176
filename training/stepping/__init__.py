"""How an optimiser steps, with little work beside its arithmetic."""
