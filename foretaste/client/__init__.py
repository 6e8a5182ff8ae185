"""The client of the HTTP service, blocking and asynchronous.

from foretaste.client import Foretaste

service = Foretaste("http://localhost:8080", token)
service.register("anna", {"gender": "F", "age": 25}, wait=2)
ranking = service.rank("anna", ["Heat (1995)", "Toy Story (1995)"])
"""

from foretaste.client.asynchronous import AsyncForetaste
from foretaste.client.blocking import Foretaste
from foretaste.client.errors import RequestRefused, ServiceAway, UnreadableAnswer
from foretaste.client.tries import TryPolicy

__all__ = ["AsyncForetaste", "Foretaste", "RequestRefused", "ServiceAway", "TryPolicy", "UnreadableAnswer"]
