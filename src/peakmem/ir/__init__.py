"""The intermediate representation: frozen graphs, their builder, their checks, their shapes."""
