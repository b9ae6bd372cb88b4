"""The attack lab: a lying server and lying partners against real endpoints over the real wire."""
