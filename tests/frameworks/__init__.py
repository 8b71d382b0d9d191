"""Tests that need torch and transformers. A package, so that its conftest has a name of its own."""
