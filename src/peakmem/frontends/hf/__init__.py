"""Networks of Hugging Face model families, written down from the fields of their configuration.

Each file holds a group of families; `families` lists them. A family is a function from a Config to
a Design, and says for each field it reads what the library takes when the field is missing. Nothing
here opens files or counts bytes.
"""
