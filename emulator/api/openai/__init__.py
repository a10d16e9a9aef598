"""The OpenAI routes of an endpoint: `/v2/{endpoint_id}/openai/v1/…` (wire.md 4).

A call becomes a job like any other (`door.py`); what its worker brings becomes an OpenAI answer: a JSON body,
or server-sent events (`event_text.py`). Every error there has OpenAI's form (`errors.py`), as clients show no
other.
"""
