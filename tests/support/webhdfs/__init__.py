"""A small HDFS that speaks WebHDFS, for tests: name nodes and data nodes over one namespace in memory."""
