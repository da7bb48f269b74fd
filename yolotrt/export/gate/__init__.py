"""The accuracy gate: how good each precision of a model is, and which one may leave the house. Read `proof` first."""
