"""HTTP/1.1 for people and programs that ask models: connections, routes and the documents that they answer with."""
