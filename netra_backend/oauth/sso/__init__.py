"""Single sign-on: which identity provider a tenant's people log in at, who they are, and what happens when it fails."""
