locals {
  namespace = "rtvc"
  scheme    = var.tls ? "https" : "http"
  models_at = "/srv/rtvc/models"
  ready     = "ready"
  drain     = "drain"

  # What rtvc serve is told beside the secrets and its capacity, which depends on the instance's type.
  settings = merge(
    {
      RTVC_SERVE_HOST       = "0.0.0.0"
      RTVC_SERVE_PORT       = tostring(var.port)
      RTVC_SERVE_SHUTDOWN_S = tostring(var.drain_s)
      RTVC_STT_MODEL        = var.model
    },
    var.tls ? { RTVC_SERVE_TLS = "self-signed" } : {},
    var.publish_figures ? {
      RTVC_CLOUD_PROVIDER        = "aws"
      RTVC_CLOUD_NAMESPACE       = local.namespace
      RTVC_CLOUD_PUBLISH_EVERY_S = tostring(local.scaling.metric_period_s)
    } : {},
    var.fleet == null ? {} : {
      # A connection that the balancer keeps must not be closed by the server just as it uses it.
      RTVC_SERVE_KEEP_ALIVE_S              = tostring(var.fleet.idle_timeout_s + 10)
      RTVC_ACCESS_PROXIES                  = join(",", var.fleet.balancer_cidrs)
      RTVC_CLOUD_GROUP                     = var.name
      RTVC_CLOUD_DEREGISTRATION_DELAY_S    = tostring(local.scaling.deregistration_delay_s)
      RTVC_CLOUD_IDLE_BEFORE_UNPROTECTED_S = tostring(local.scaling.idle_before_unprotected_s)
    },
    var.settings,
  )

  start = templatefile("${path.module}/files/start.sh.tftpl", {
    region       = local.region
    capacity     = var.capacity_per_instance
    by_type      = var.capacity_by_type
    publishes    = var.publish_figures
    group        = var.fleet == null ? "" : var.name
    drain        = local.drain
    secrets      = var.secrets
    image        = var.container_image == null ? "" : var.container_image
    registry     = local.ecr == null ? "" : split("/", var.container_image)[0]
    registry_in  = local.ecr == null ? "" : local.ecr.region
    installed_at = var.installed_at == null ? "" : var.installed_at
    gpu          = var.gpu
    log_group    = var.log_group == null ? "" : var.log_group.name
    models_at    = var.model_snapshot_id == null ? "" : local.models_at
  })

  unit = templatefile("${path.module}/files/rtvc.service.tftpl", {
    container = var.container_image != null
    models_at = var.model_snapshot_id == null ? "" : local.models_at
    boot_s    = var.fleet == null ? 900 : var.fleet.boot_timeout_s
    stop_s    = var.drain_s + 30
    drain_s   = var.drain_s + 15
  })

  in_service = templatefile("${path.module}/files/in-service.sh.tftpl", {
    region = local.region
    group  = var.name
    hook   = local.ready
    url    = "${local.scheme}://127.0.0.1:${var.port}/readyz"
  })

  files = concat(
    [
      {
        path        = "/etc/rtvc/rtvc.env"
        permissions = "0644"
        content     = join("", [for name, value in local.settings : "${name}=${value}\n"])
      },
      { path = "/usr/local/lib/rtvc/start", permissions = "0755", content = local.start },
      { path = "/etc/systemd/system/rtvc.service", permissions = "0644", content = local.unit },
    ],
    var.model_snapshot_id == null ? [] : [{
      # systemd wants the name of the unit to say where.
      path        = "/etc/systemd/system/srv-rtvc-models.mount"
      permissions = "0644"
      content     = file("${path.module}/files/srv-rtvc-models.mount")
    }],
    var.fleet == null ? [] : [
      { path = "/usr/local/lib/rtvc/in-service", permissions = "0755", content = local.in_service },
      {
        path        = "/etc/systemd/system/rtvc-in-service.service"
        permissions = "0644"
        content     = file("${path.module}/files/rtvc-in-service.service")
      },
    ],
  )

  # Nothing is installed at a start: what is not on the image or in the container could be missing, slow or
  # another version on the day when a server is needed at once. JSON is YAML, so cloud-init reads it.
  user_data = "#cloud-config\n${jsonencode({
    write_files = local.files
    runcmd = concat(
      [
        ["systemctl", "daemon-reload"],
        ["systemctl", "enable", "--now", "--no-block", "rtvc.service"],
      ],
      # Once in the life of an instance: after a reboot it is in service already.
      var.fleet == null ? [] : [["systemctl", "start", "--no-block", "rtvc-in-service.service"]],
    )
  })}\n"
}
