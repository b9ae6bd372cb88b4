"""People who come through a service: who an identity provider says they are (OpenID Connect), and what they may do.

A service of the federation, such as the explainer, shows its own certificate and forwards the token of the person who
sits before it. `settings` says whose tokens count, `tokens` checks the signature and `claims` what it is over, `keys`
holds the provider's keys, and `desk` puts them before the gate.
"""
