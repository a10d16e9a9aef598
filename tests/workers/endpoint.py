"""What tests ask of an endpoint whose workers do as a job's input says."""

from __future__ import annotations


class Endpoint:
    """The endpoint `ep` of an emulator, over HTTP."""

    def __init__(self, http, emulator):
        self.http = http
        self.emulator = emulator

    def run(self, do, **more):
        answer = self.http.post("/v2/ep/run", json={"input": {"do": do, **more}})
        return answer.json()["id"]

    def ended(self, job_id):
        """The job once it has ended."""
        body = {"status": ""}
        while body["status"] not in ("COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"):
            body = self.http.get(f"/v2/ep/status-sync/{job_id}?wait=300000").json()
        return body

    def has_ended(self, job_id):
        status = self.http.get(f"/v2/ep/status/{job_id}").json()["status"]
        return status not in ("IN_QUEUE", "IN_PROGRESS")

    def runsync(self, do, **more):
        return self.ended(self.run(do, **more))

    def workers(self):
        return self.http.get("/_emulator/workers").json()["workers"]

    def obstacle(self):
        """Why no worker starts, once that is known."""
        while not (told := self.http.get("/_emulator/endpoints/ep").json()["obstacle"]):
            pass
        return told

    def reasons(self, job_id):
        """What is told of a job and of its workers."""
        return "\n".join(self.http.get(f"/_emulator/jobs/{job_id}/timeline").json()["lines"])
