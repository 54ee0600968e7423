"""Problems that make themselves: generator, exact expert, verifier."""
